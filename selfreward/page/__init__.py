"""`RUN/report.html`: a run as one page with pictures and rows, complete without network and script (`write_page`)."""
