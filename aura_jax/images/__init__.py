"""Image files and arrays: reading, writing, cutting, finding and drawing them."""
