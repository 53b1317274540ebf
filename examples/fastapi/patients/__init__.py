"""A small FastAPI service: the starting point for a service that clinicult/cicd ships."""
