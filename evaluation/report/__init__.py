"""The results as files to read: a page for the browser, a table for a paper."""
