"""The application's side: models of its classes, and how a change is carried out there."""
