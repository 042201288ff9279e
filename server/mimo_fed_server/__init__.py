"""The coordination server: a Flower ServerApp, the registry and the enrolment authority."""
