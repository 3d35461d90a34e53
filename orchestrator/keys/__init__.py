"""Keys of services: kept where nobody reads them, and taken out of everything that is said."""
