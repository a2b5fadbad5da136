"""What clients do, without doing it: programs yield the effects that they want, and a driver with threads or with asyncio performs them."""
