"""What the stand-in needs of ASGI: whole responses, disconnects, resets."""
