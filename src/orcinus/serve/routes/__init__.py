"""The routes, by subject: each module makes a router around a service."""
