// Filters the table of methods by words, room and verdict; the address keeps the choice, so that it can be shared.
const form = document.querySelector("form");
const rows = [...document.querySelectorAll("tbody tr")];
const count = document.querySelector("#count");

function filter() {
  const words = form.search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of rows) {
    const fits = words.every((word) => row.dataset.text.includes(word))
      && (!form.room.value || row.dataset.room === form.room.value)
      && (!form.verdict.value || row.dataset.verdict === form.verdict.value);
    row.hidden = !fits;
    shown += fits;
  }
  count.textContent = `${shown} of ${rows.length} methods`;
}

function remember() {
  const chosen = new URLSearchParams([...new FormData(form)].filter(([, value]) => value));
  history.replaceState(null, "", chosen.size ? `?${chosen}` : location.pathname);
}

for (const [name, value] of new URLSearchParams(location.search)) if (form.elements[name]) form.elements[name].value = value;
form.addEventListener("input", () => { filter(); remember(); });
form.addEventListener("submit", (event) => event.preventDefault());
filter();
