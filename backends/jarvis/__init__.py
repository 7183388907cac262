"""Jobs on rented machines of Jarvis Labs; the SDK is imported when it is used."""
