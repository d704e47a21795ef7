"""From a page as data to one HTML file: a toolkit that knows no analysis."""
