"""The console: pages in Jinja2 and htmx over the services that the API has; the browser calls `/v1` for the rest."""
