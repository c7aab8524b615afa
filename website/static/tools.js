// The page to try: choices of a model, its tokenizer, a calculator. Numbers come from tools-data.js, nothing from a server.
"use strict";

(async () => {
  await load("tools-data.js");
  const { choices, models, machines } = window.COURSE_DATA;
  const words = JSON.parse(document.getElementById("tool-words").textContent);
  const locale = document.documentElement.lang;
  const number = (value, digits = 0) => value.toLocaleString(locale, { maximumFractionDigits: digits });

  function make(tag, attributes = {}, ...children) {
    const one = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) one.addEventListener(name.slice(2), value);
      else one.setAttribute(name, value);
    }
    one.append(...children);
    return one;
  }

  function labelled(text, field) {
    return make("label", {}, `${text} `, field);
  }

  function options(titles) {
    return titles.map((title, place) => make("option", { value: place }, title));
  }

  // Which word comes next: a tree of stored candidates, walked by clicks.
  function explorer(box) {
    const texts = make("select", { onchange: start }, ...options(choices.trees.map((tree) => tree.text)));
    const warmth = make("input", { type: "range", min: 0, max: choices.temperatures.length - 1, value: 4, oninput: draw });
    const shown = make("output");
    const text = make("p", { class: "text", "aria-live": "polite" });
    const list = make("div");
    const again = make("button", { type: "button", onclick: start }, words["Start again"]);
    box.append(labelled(words["Text"], texts), labelled(words["Temperature"], warmth), shown, text, list, again);
    let here, written;

    function start() {
      here = choices.trees[texts.value || 0];
      written = here.text;
      draw();
    }

    function draw() {
      const temperature = choices.temperatures[warmth.value];
      shown.textContent = number(temperature, 1);
      warmth.setAttribute("aria-valuetext", number(temperature, 1));
      text.textContent = written;
      list.replaceChildren();
      if (!here) return list.append(make("p", {}, words["Stored no further: start again."]));
      let rest = 1;
      here.of.forEach(([token, logit], place) => {
        const share = Math.exp(logit / temperature - here.sums[warmth.value]);
        rest -= share;
        list.append(row(token, share, () => take(place)));
      });
      list.append(row(words["the other tokens together"], Math.max(0, rest)));
    }

    function row(token, share, chosen) {
      const word = token.replaceAll("\n", "⏎").replace(/^ /, "·");
      const bar = make("span", {}, make("span", { class: "bar", style: `width:${(100 * share).toFixed(2)}%` }));
      const parts = [make("span", { class: "word" }, word), bar, make("span", { class: "share" }, `${number(100 * share, 1)} %`)];
      return chosen ? make("button", { type: "button", class: "choice", onclick: chosen }, ...parts) : make("div", { class: "choice" }, ...parts);
    }

    function take(place) {
      written += here.of[place][0];
      here = here.then && here.then[place];
      draw();
      (list.querySelector("button") ?? again).focus();
    }

    start();
  }

  // How a text becomes tokens: byte-level BPE, digits one by one, as SmolLM2 does it.
  const BYTES = (() => {
    const plain = (b) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
    let next = 256;
    return Array.from({ length: 256 }, (_, b) => String.fromCodePoint(plain(b) ? b : next++));
  })();
  const PIECES = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;
  let ranks;

  async function merges() {
    if (ranks) return;
    await load("tools-merges.js");
    ranks = new Map(window.COURSE_MERGES.split("\n").map((pair, rank) => [pair, rank]));
  }

  function tokens(text) {
    const found = [];
    for (const part of text.split(/(\p{N})/u)) {
      for (const [piece] of part.matchAll(PIECES)) found.push(...merged([...new TextEncoder().encode(piece)].map((b) => BYTES[b])));
    }
    return found;
  }

  function merged(parts) {
    for (;;) {
      let best = Infinity, at = -1;
      for (let i = 0; i + 1 < parts.length; i++) {
        const rank = ranks.get(`${parts[i]} ${parts[i + 1]}`) ?? Infinity;
        if (rank < best) [best, at] = [rank, i];
      }
      if (at < 0) return parts;
      const [one, other] = [parts[at], parts[at + 1]];
      const next = [];
      for (let i = 0; i < parts.length; i++) {
        if (parts[i] === one && parts[i + 1] === other) next.push(one + other), i++;
        else next.push(parts[i]);
      }
      parts = next;
    }
  }

  function readable(token) {
    const bytes = [...token].map((letter) => BYTES.indexOf(letter));
    return new TextDecoder().decode(new Uint8Array(bytes)).replaceAll(" ", "·").replaceAll("\n", "⏎");
  }

  function tokenizer(box) {
    const field = make("textarea", { rows: 3, maxlength: 2000, oninput: draw, onfocus: draw });
    const count = make("output", { "aria-live": "polite" });
    const list = make("p");
    field.value = "Stockholm has 1,656,571 inhabitants. Hur många är de i Göteborg?";
    box.append(labelled(words["Your text"], field), count, list);
    window.courseTokens = async (text) => (await merges(), tokens(text));

    async function draw() {
      await merges();
      const found = tokens(field.value);
      count.textContent = `${number(found.length)} ${words["tokens"]}`;
      list.replaceChildren(...found.map((token) => make("span", { class: "token" }, readable(token))));
    }

    draw();
  }

  // How much memory, how fast: weights and cache, read once for each token.
  function calculator(box) {
    const model = make("select", { onchange: draw }, ...options(models.map((one) => one.title)));
    const bits = make("select", { onchange: draw }, ...[16, 8.5, 5, 4.5].map((b) => make("option", { value: b }, number(b, 1))));
    const length = make("input", { type: "range", min: 0, max: 15, value: 10, oninput: draw });
    const said = make("p", { class: "text", "aria-live": "polite" });
    const body = make("tbody");
    const table = make("table", { class: "table" }, body);
    bits.value = 4.5;
    box.append(labelled(words["Model"], model), labelled(words["Bits a weight"], bits), labelled(words["Tokens of conversation"], length), said, table);

    function draw() {
      const one = models[model.value], tokens = 2 ** length.value, gib = 2 ** 30;
      const weights = (one.parameters * bits.value) / 8, cache = one.cache * tokens;
      const read = (one.read * bits.value) / 8 + cache;
      length.setAttribute("aria-valuetext", number(tokens));
      const size = (value) => `${number(value / gib, 2)} GiB`;
      said.textContent = `${words["Memory of"]} ${one.title}: ${words["weights"]} ${size(weights)}, ${words["conversation"]} (${number(tokens)}) ${size(cache)}`;
      body.replaceChildren(
        ...machines.map((machine) => {
          const fits = weights + cache <= machine.gib * gib;
          const rate = machine.bandwidth / read;
          const bound = `${words["at most"]} ${number(rate, rate < 10 ? 1 : 0)} ${words["tokens a second"]}`;
          return make("tr", {}, make("th", { scope: "row" }, machine.title), make("td", {}, fits ? bound : words["does not fit"]));
        }),
      );
    }

    draw();
  }

  const tools = { explorer, tokenizer, calculator };
  document.querySelectorAll("[data-tool]").forEach((box) => tools[box.dataset.tool](box));
})();
