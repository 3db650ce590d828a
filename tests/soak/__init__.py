"""`make soak`: Parley's processes, killed and frozen at random for minutes, and what they must never do meanwhile.

agent, ledger       what is at stake: tools whose every effect is written down outside of Parley
life, member        a process, its many lives, and what was done to each
fleet               the two arrangements of processes
worker              a process that hands SQS's messages to the production handler, as Lambda does
faults              who is killed or frozen, and when: from the seed
customers, person   those who use it, and try again until they are answered
asking, streams     how they ask, and how they follow
book                what was promised to them
logs, verdict       what is in the logs at the end, held against the book and the ledger
recovery            how long what was hit lay still
siege, report       the course of one arrangement, and its table
"""
