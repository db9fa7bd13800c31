"""Puts any model behind a chat endpoint: change `answer`, start it, and --model openai-audio asks it.

$ python own_server.py 8000
$ lm_eval --model openai-audio --model_args base_url=http://127.0.0.1:8000/v1 --tasks mmaupro ...
"""

import base64
import io
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import soundfile


def answer(text, sounds):
    """Call your model here: `text` has <audio> where each of `sounds`, (samples, Hz), belongs."""
    seconds = [len(samples) / rate for samples, rate in sounds]
    return f"I heard {len(sounds)} sounds of {sum(seconds):.1f} s in all."


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):  # /v1/models
        self.reply(200, {"data": [{"id": "own"}]})

    def do_POST(self):  # /v1/chat/completions
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        contents = [message["content"] for message in body["messages"]]
        text, sounds = "", []
        try:
            for content in contents:
                for part in [{"text": content}] if isinstance(content, str) else content:
                    if "input_audio" in part:
                        file = io.BytesIO(base64.b64decode(part["input_audio"]["data"]))
                        sounds.append(soundfile.read(file, dtype="float32"))
                    # What is neither sound nor text has no key "text": it is refused, not passed over.
                    text += "<audio>" if "input_audio" in part else part["text"]
            message = {"role": "assistant", "content": answer(text, sounds)}
            self.reply(200, {"choices": [{"message": message, "finish_reason": "stop"}]})
        except Exception as error:  # becomes an errored item with these words
            self.reply(400, {"error": {"message": repr(error)}})

    def reply(self, status, content):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
