"""The answer in what axolotl's own inference printed.

Between rules of 80 `=` it prints prompt, template and answer as one text, twice over. Where the
prompt ends is not marked, so what chat templates put there is listed here; a test holds the list
against every template that axolotl brings.
"""

from __future__ import annotations

import re

from backends.errors import Failed

_RULE = "=" * 80
_ASKS = rf"Give me an instruction \(Ctrl \+ D to submit\): *\r?\n{_RULE}"
_BODY = re.compile(rf"{_ASKS}\r?\n{_RULE}\r?\n(?P<body>.*)\n{_RULE}\r?\n{_ASKS}", re.DOTALL)

_HEADERS = (
    r"\s*### (?:Final )?Response:\n",  # alpaca
    r"(?:<\|END_OF_TURN_TOKEN\|>)?<\|START_OF_TURN_TOKEN\|><\|CHATBOT_TOKEN\|>",  # aya, cohere
    r"<\|im_end\|>\n?<\|im_start\|>assistant(?:<\|im_sep\|>|\n)",  # chatml and its many children
    r"(?:\n\n)?<｜Assistant｜>",  # deepseek
    r"(?:\[\|endofturn\|\])?\n\[\|assistant\|\]\n?",  # exaone
    r"<end_of_turn>\n<start_of_turn>model\n",  # gemma
    r"<turn\|>\n<\|turn>model\n(?:<\|channel>thought\n<channel\|>)?",  # gemma 4
    r"<\|eom\|><\|bom\|><\|assistant\|>",  # jamba
    r"<\|eot_id\|><\|start_header_id\|>assistant<\|end_header_id\|>\n\n",  # llama 3
    r"<\|eot\|><\|header_start\|>assistant<\|header_end\|>\n\n",  # llama 4
    r"<\|model\|>",  # metharme
    r"\s*\[/INST\]",  # mistral
    r"(?:<\|end\|>|</s>|<\|endoftext\|>)?\n?<\|assistant\|>\n?",  # phi, zephyr
    r"\s*ASSISTANT:",  # llava, vicuna
)
_HEADER = re.compile("|".join(f"(?:{header})" for header in _HEADERS))
_OPENING = re.compile(r"\A(?:<\|START_RESPONSE\|>|\s*<think>\s*</think>)")
_ENDS = re.compile(
    r"(?:\s*(?:<\|[^<>|\s]{1,40}\|>|<｜[^<>｜]{1,40}｜>|</s>|<eos>|<pad>|<end_of_turn>|<turn\|>"
    r"|\[\|endofturn\|\]))+\s*\Z"
)


def extract_answer(log_text: str, prompt: str = "") -> str:
    """The answer alone, without the prompt, its template, and the tokens that end it.

    log_text  everything `axolotl.cli.inference` printed, or the log's text lines joined
    prompt    what was asked; given, the place where the answer starts can be told more surely

    Raises Failed when the text holds no answer.
    """
    found = _BODY.search(log_text)
    if found is None:
        raise Failed("the run printed no answer", hint="its log says how far it came")
    answer = _after_prompt(_one_of_two(found["body"]), prompt.strip())
    return _ENDS.sub("", _OPENING.sub("", answer)).strip()


def _one_of_two(body: str) -> str:
    """The final text of the two; an answer may hold a rule too, so equal halves are looked for."""
    rule = f"\n{_RULE}\n"
    places = [place.start() for place in re.finditer(re.escape(rule), body)]
    if not places:
        return body
    middle = min(places, key=lambda place: abs(2 * place + len(rule) - len(body)))
    return body[middle + len(rule) :]


def _after_prompt(text: str, prompt: str) -> str:
    """What follows the prompt and the template's opening of an answer."""
    plain = -1  # where the prompt ends, if no opening that we know follows it
    start = text.find(prompt) if prompt else -1
    while start >= 0:
        end = start + len(prompt)
        header = _HEADER.match(text, end)
        if header:
            return text[header.end() :]
        plain = end if plain < 0 else plain
        start = text.find(prompt, start + 1)
    if plain >= 0:
        return text[plain:]
    header = _HEADER.search(text)
    return text[header.end() :] if header else text
