"""What a recipe would cost: every offer there is, whether it fits, how long, how many dollars.

work   = workload.of(recipe)                  # the model, the way to train, the data
offers = market.dated(need)                   # of every backend; no network, no account
quotes = quote.all_of(work, offers)           # cheapest that fits first
"""
