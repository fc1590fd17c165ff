"""Shared set-up of the suite; being here, it also puts the checkout on the import path."""
