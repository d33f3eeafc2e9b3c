"""Make the web site of the course: what is added to the pages, and what is checked when they are done."""
