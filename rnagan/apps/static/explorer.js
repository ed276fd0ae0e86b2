"use strict";
// The slider asks for new tiles while it moves: one request at a time, and the newest one next.
const controls = document.getElementById("controls");
const answer = document.getElementById("answer");
let asking = false;
let askAgain = false;
let replaced = 0; // how often in a row another page of this visit asked at the same time
let measuring = "";
let pointed = "";
let pointing = 0;

function query(form) {
  const words = new URLSearchParams(new FormData(form));
  if (!words.get("gene")) words.delete("gene");
  return words.toString();
}

function show(html) {
  answer.replaceChildren(document.createRange().createContextualFragment(html));
}

function alertOf(sentence) {
  const said = document.createElement("p");
  said.setAttribute("role", "alert");
  said.textContent = sentence;
  answer.replaceChildren(said);
}

function sentenceOf(html) {
  const page = new DOMParser().parseFromString(html, "text/html");
  return page.querySelector("[role=alert]")?.textContent ?? "The server is busy; wait a moment.";
}

async function ask() {
  if (asking) {
    askAgain = true;
    return;
  }
  asking = true;
  answer.setAttribute("aria-busy", "true");
  pointed = "";
  document.getElementById("hovered")?.replaceChildren(); // what it showed was generated before
  const words = query(controls);
  try {
    const got = await fetch(`${controls.dataset.answer}?${words}`);
    replaced = got.status === 409 ? replaced + 1 : 0;
    if (got.ok) {
      show(await got.text());
      history.replaceState(null, "", `${controls.action}?${words}`);
      measure();
    } else if (got.status === 409 && replaced < 4) askAgain = true;
    else alertOf(sentenceOf(await got.text()));
  } catch {
    alertOf("The server doesn't answer; is it still running?");
  }
  asking = false;
  if (askAgain) {
    askAgain = false;
    ask();
  } else answer.setAttribute("aria-busy", "false");
}

// The curves come later, and once for each profile, gene and seed.
async function measure() {
  if (!controls.dataset.curve || !answer.querySelector("[data-wants-curve]")) return;
  const words = new URLSearchParams(query(controls));
  words.set("step", "0");
  const mine = words.toString();
  if (measuring === mine) return;
  measuring = mine;
  const got = await fetch(`${controls.dataset.curve}?${words}`).catch(() => null);
  if (measuring !== mine) return; // a newer one is under way
  measuring = "";
  const said = document.getElementById("curves");
  if (got?.ok) ask();
  else if (said) said.textContent = "The curves weren't measured; move the slider to try it again.";
}

controls.addEventListener("input", (event) => {
  const at = event.target;
  if (at.name === "step") document.getElementById("moved").textContent = at.value > 0 ? `+${at.value}` : at.value;
  if (at.name === "step" || (at.name === "seed" && at.reportValidity() && at.value !== "")) ask();
});
controls.addEventListener("change", (event) => {
  if (!("reload" in event.target.dataset)) return;
  const step = document.getElementById("step");
  if (step && event.target.name !== "profile") step.disabled = true; // another slider starts where it is
  controls.requestSubmit();
});
window.addEventListener("pageshow", () => {
  const step = document.getElementById("step");
  if (step) step.disabled = false;
});
measure();

const upload = document.getElementById("upload");
const UNSENT = "The table wasn't taken: keep it below 8 MB, with a few samples, and load this page anew if it is old.";
upload?.addEventListener("submit", (event) => event.preventDefault());
upload?.addEventListener("change", async () => {
  const file = document.getElementById("table").files[0];
  const said = document.getElementById("said");
  if (!file) return;
  said.textContent = "Reading …";
  try {
    const units = new URLSearchParams({ units: document.getElementById("units").value });
    const got = await fetch(`${upload.action}?${units}`, { method: "POST", body: file, headers: { "Content-Type": "text/csv" } });
    const about = got.headers.get("content-type")?.startsWith("application/json") ? await got.json() : { said: sentenceOf(await got.text()) };
    if (about.go) window.location.assign(about.go);
    else said.textContent = got.status === 413 ? UNSENT : about.said;
  } catch {
    said.textContent = UNSENT;
  }
});

// The map: pointing shows a spot, choosing it generates what lies around it.
const map = document.getElementById("map");

map?.addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  document.getElementById("profile").value = link.dataset.profile;
  chosen(link.dataset.profile);
});
if (map) {
  document.getElementById("profile").addEventListener("change", (event) => chosen(event.target.value));
  map.addEventListener("pointerover", (event) => {
    const link = event.pointerType === "touch" ? null : event.target.closest("a");
    clearTimeout(pointing);
    if (link) pointing = setTimeout(() => point(link.dataset.profile), 120);
  });
}

function chosen(profile) {
  map.querySelector(".chosen")?.classList.remove("chosen");
  map.querySelector(`[data-profile="${CSS.escape(profile)}"] circle`)?.classList.add("chosen");
  ask();
}

async function point(profile) {
  pointed = profile;
  const words = new URLSearchParams(query(controls));
  words.set("profile", profile);
  const got = await fetch(`${map.dataset.spot}?${words}`).catch(() => null);
  if (!got?.ok || pointed !== profile) return;
  const shown = document.createRange().createContextualFragment(await got.text());
  document.getElementById("hovered").replaceChildren(shown);
}
