"""The service behind the routes: state, schemas, the catalog's gateway, admin routes, records, metrics."""
