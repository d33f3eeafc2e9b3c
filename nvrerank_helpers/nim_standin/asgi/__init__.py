"""What the stand-in needs from ASGI: buffered responses, disconnects, connection resets."""
