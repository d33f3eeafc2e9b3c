"""The service behind the routes: its state, request types, the catalog's gateway, admin routes, records, metrics."""
