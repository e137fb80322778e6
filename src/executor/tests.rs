//! The executor on its own; what it does behind real transports is tested in `tests/it/`.
