"""One module a service, each an agent type: options and an uploader."""
