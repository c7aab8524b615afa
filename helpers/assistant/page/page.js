// The page in front of the assistant. Whatever comes is put in as text, never as HTML: documents are other people's.
"use strict";

const part = (id) => document.getElementById(id);
const key = location.hash.slice(1); // what stands behind # is sent to no server by a browser
const asking = { headers: { Authorization: `Bearer ${key}` } };
let running = null;
let sources = 0;

function element(name, text, parent, className) {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  parent.append(made);
  return made;
}

function refused(status) {
  return status === 401
    ? "This page was opened without its key. Open the whole address that the program told."
    : `The assistant did not answer (${status}).`;
}

async function about() {
  const answer = await fetch("about", asking);
  if (!answer.ok) return void (part("about").textContent = refused(answer.status));
  const told = await answer.json();
  const left = told.left_out.map((one) => `\nLeft out: ${one}`).join("");
  part("about").textContent = `${told.folder}: ${told.documents} documents, ${told.passages} passages · ${told.model}${left}`;
}

function show(box, told) {
  if (told.piece !== undefined) {
    if (box.dataset.state !== "draft") box.textContent = "";
    box.dataset.state = "draft";
    box.classList.add("draft");
    box.textContent += told.piece;
  } else if (told.problem !== undefined) {
    finish(box, "problem");
    box.textContent = told.problem;
  } else if (told.sentences !== undefined) {
    finish(box, told.gate);
    box.textContent = told.sentences.length ? "" : told.text;
    const numbers = new Map();
    for (const one of told.sentences) {
      if (!numbers.has(one.source)) numbers.set(one.source, ++sources);
      box.append(`${one.text} `);
      const link = element("a", `[${numbers.get(one.source)}]`, box);
      link.href = `#source-${numbers.get(one.source)}`;
      link.title = one.place;
      link.addEventListener("click", (event) => open(event, link));
      box.append(" ");
    }
    for (const [source, number] of numbers) {
      const more = element("details", "", box);
      more.id = `source-${number}`;
      element("summary", `[${number}] ${told.passages[source].place}`, more);
      element("div", told.passages[source].text, more);
    }
  }
}

function open(event, link) {
  event.preventDefault(); // the key stays in the address
  const more = document.querySelector(link.getAttribute("href"));
  more.open = true;
  more.querySelector("summary").focus();
}

function finish(box, state) {
  box.classList.remove("draft");
  box.dataset.state = state;
}

async function ask(question) {
  element("div", question, part("conversation"), "asked");
  const box = element("div", "reading …", part("conversation"), "told");
  running = new AbortController();
  part("send").disabled = true;
  part("stop").disabled = false;
  try {
    const body = JSON.stringify({ question });
    const answer = await fetch("ask", { ...asking, method: "POST", body, signal: running.signal });
    if (!answer.ok) throw new Error(refused(answer.status));
    const lines = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let held = "";
    for (let got = await lines.read(); !got.done; got = await lines.read()) {
      held += got.value;
      const whole = held.split("\n");
      held = whole.pop();
      for (const line of whole) show(box, JSON.parse(line));
      box.scrollIntoView({ block: "nearest" });
    }
    if (!box.dataset.state || box.dataset.state === "draft") throw new Error("The answer broke off.");
  } catch (error) {
    const stopped = error.name === "AbortError";
    finish(box, stopped ? "stopped" : "problem");
    box.textContent = stopped ? "Stopped." : error.message;
  } finally {
    running = null;
    part("send").disabled = false;
    part("stop").disabled = true;
    part("question").focus();
  }
}

part("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const question = part("question").value.trim();
  if (!question || running) return;
  part("question").value = "";
  ask(question);
});
part("stop").addEventListener("click", () => running?.abort());
document.addEventListener("keydown", (event) => event.key === "Escape" && running?.abort());
about();
