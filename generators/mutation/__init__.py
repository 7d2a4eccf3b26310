"""Cases made of others: a program is run again call by call, and goes another way somewhere."""
