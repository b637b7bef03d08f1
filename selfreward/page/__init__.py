"""`RUN/report.html`: a run as one page with pictures and rows, without network, script or font (`write_page`)."""
