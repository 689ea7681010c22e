"""Pictures: reading, writing, cutting, finding, drawing."""
