# Keeps the prompts of 60 users in a dictionary until its standard input ends, then prints it:
# feed_client.py EXAMPLES SOCKET CHANNEL PSQL CONNINFO
import json
import random
import subprocess
import sys
import threading
import time

examples, path, channel, psql, conninfo = sys.argv[1:]
sys.path.insert(0, examples)
sys.dont_write_bytecode = True
from local_prompts import LocalPrompts  # noqa: E402

session = subprocess.Popen([psql, "-XqAt", "-d", conninfo], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
reads = 0


def read(key):
    global reads
    reads += 1
    session.stdin.write(f"SELECT json_build_array(prompt, tags) FROM prompt_cache.get_with_tags('{key}');\n")
    session.stdin.flush()
    return tuple(json.loads(session.stdout.readline()))


done = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), done.set()), daemon=True).start()
prompts = LocalPrompts(read, channel, path=path)
gets = 0
while not done.is_set():
    prompts.get(str(random.randint(1, 60)))
    gets += 1
    time.sleep(0.0005)
print(json.dumps({"gets": gets, "reads": reads, "prompts": prompts.snapshot()}))
