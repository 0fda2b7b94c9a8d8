"""Prompts in a dictionary of this process, kept right by the invalidation channel of prompt_cache.

    prompts = LocalPrompts(read, channel, host="127.0.0.1")
    prompts.get("42")

read(key) returns (prompt, tags), as `SELECT * FROM prompt_cache.get_with_tags(%s)` does on the primary, and channel is
what `SELECT prompt_cache.invalidation_channel()` says. Only the standard library is used; a client library's
subscription does as well.

A message is {"epoch": text, "seq": number, "tags": [text, ...]}. It comes after the change is visible. One comes each
second at least. Whatever is not the next number of the same epoch, and silence, means that something was missed:
everything is forgotten. While nothing is heard nothing is kept, and every get() reads.
"""
import json
import socket
import threading
import time


class LocalPrompts:
    SILENCE = 3.0         # seconds without a message: the connection is taken for dead
    MOST_TAGS = 100_000   # remembered for reads that are under way

    def __init__(self, read, channel, host="127.0.0.1", port=6379, path=None, user=None, password=None):
        self._read, self._channel = read, channel
        self._address = path or (host, port)
        self._login = [word for word in (user, password) if word]
        self._lock = threading.Lock()
        self._prompts = {}      # key -> (prompt, tags)
        self._keys = {}         # tag -> keys
        self._clock = 0         # counts what was heard
        self._dropped = {}      # tag -> clock when it was named last
        self._forgot = 0        # clock when everything was forgotten
        self._next = None       # (epoch, seq) of the next message; None: nothing is heard
        threading.Thread(target=self._listen, daemon=True).start()

    def get(self, key):
        with self._lock:
            if key in self._prompts:
                return self._prompts[key][0]
            began = self._clock
        prompt, tags = self._read(key)
        with self._lock:
            # What was named while it was read may be missing in it.
            if self._next and began >= self._forgot and all(self._dropped.get(tag, 0) <= began for tag in tags):
                self._prompts[key] = (prompt, tags)
                for tag in tags:
                    self._keys.setdefault(tag, set()).add(key)
        return prompt

    def snapshot(self):
        with self._lock:
            return {key: prompt for key, (prompt, _) in self._prompts.items()}

    def _forget_everything(self):
        self._clock += 1
        self._forgot = self._clock
        self._prompts.clear()
        self._keys.clear()
        self._dropped.clear()

    def _hear(self, message):
        with self._lock:
            here = (message["epoch"], message["seq"])
            if here != self._next or len(self._dropped) > self.MOST_TAGS:
                self._forget_everything()
            self._next = (here[0], here[1] + 1)
            if not message["tags"]:
                return
            self._clock += 1
            for tag in message["tags"]:
                self._dropped[tag] = self._clock
                for key in self._keys.pop(tag, ()):
                    for other in self._prompts.pop(key, (None, ()))[1]:
                        if other != tag and other in self._keys:
                            self._keys[other].discard(key)

    def _listen(self):
        while True:
            try:
                self._subscribe()
            except (OSError, ValueError):
                pass
            with self._lock:
                self._next = None
                self._forget_everything()
            time.sleep(0.2)

    def _subscribe(self):
        family = socket.AF_UNIX if isinstance(self._address, str) else socket.AF_INET
        with socket.socket(family) as connection:
            connection.settimeout(self.SILENCE)
            connection.connect(self._address)
            stream = connection.makefile("rb")
            if self._login:
                connection.sendall(self._command("AUTH", *self._login))
                self._reply(stream)
            connection.sendall(self._command("SUBSCRIBE", self._channel))
            while True:
                reply = self._reply(stream)
                if reply[0] == b"message":
                    self._hear(json.loads(reply[2]))

    @staticmethod
    def _command(*words):
        parts = [b"*%d\r\n" % len(words)]
        for word in words:
            parts.append(b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()))
        return b"".join(parts)

    def _reply(self, stream):
        line = stream.readline()
        if not line.endswith(b"\r\n"):
            raise OSError("the connection has ended")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise OSError(rest.decode("ascii", "replace"))
        if kind == b"$":
            return stream.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self._reply(stream) for _ in range(int(rest))]
        return rest
