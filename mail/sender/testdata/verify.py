"""Says with dkimpy whether every DKIM signature of a message holds.
Arguments: NAME=RECORD, the TXT records that DNS would give, and files with messages; without one, the message comes on
standard input. Prints a line for each message: how many hold, of how many."""
import os, sys, dkim

files = [a for a in sys.argv[1:] if os.path.exists(a)]
keys = dict(a.split("=", 1) for a in sys.argv[1:] if a not in files)


def txt(name, timeout=5):
    record = keys.get(name.decode().rstrip("."))
    return record.encode() if record else None


def judge(message):
    n = sum(1 for name, _ in dkim.rfc822_parse(message)[0] if name.lower() == b"dkim-signature")
    good = sum(dkim.DKIM(message, minkey=1024).verify(idx=i, dnsfunc=txt) for i in range(n))
    print(good, "of", n)


for f in files:
    judge(open(f, "rb").read())
if not files:
    judge(sys.stdin.buffer.read())
