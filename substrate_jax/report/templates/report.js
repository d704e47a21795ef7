// A click on a heading sorts by that column: numbers from large to small first, blanks last.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const th = button.parentElement;
    const body = th.closest("table").tBodies[0];
    const numeric = th.classList.contains("n");
    const before = th.getAttribute("aria-sort");
    const descending = before ? before === "ascending" : numeric;
    for (const other of th.parentElement.cells) other.removeAttribute("aria-sort");
    th.setAttribute("aria-sort", descending ? "descending" : "ascending");

    const value = row => {
      const cell = row.cells[th.cellIndex];
      if (!numeric) return cell.textContent.trim();
      return "v" in cell.dataset ? Number(cell.dataset.v) : null;
    };
    const compare = (a, b) => {
      if (a === null || b === null) return (a === null) - (b === null);
      const order = numeric ? a - b : a.localeCompare(b, undefined, { numeric: true });
      return descending ? -order : order;
    };
    const rows = [...body.rows].map(row => [value(row), row]);
    rows.sort(([a], [b]) => compare(a, b));
    body.append(...rows.map(([, row]) => row));
  });
}

// A figure says the value under the pointer, a finger, or where arrow keys have come.
const reading = document.body.appendChild(document.createElement("output"));
reading.id = "reading";
reading.hidden = true;
for (const pan of document.querySelectorAll("[data-places]")) {
  const image = pan.firstElementChild;
  const places = JSON.parse(pan.dataset.places).flatMap(place => {
    if ("points" in place) return place.points.map(([x, y, value]) => (
      { x, y, wide: 0, high: 0, words: place.name + value }
    ));
    const [left, top, width, height] = place.box;
    const wide = width / place.columns.length, high = height / place.rows.length;
    return place.values.flatMap((row, i) => row.map((value, j) => ({
      x: left + (j + .5) * wide, y: top + (i + .5) * high, wide, high,
      words: `${place.rows[i]}, ${place.columns[j]}: ${value}`,
    })));
  });
  let current = null;
  const say = place => {
    current = place;
    reading.hidden = !place;
    if (!place) return;
    const box = image.getBoundingClientRect();
    reading.value = place.words;
    const half = reading.offsetWidth / 2 + 4;
    const x = box.left + place.x * box.width, y = box.top + (place.y - place.high / 2) * box.height;
    reading.style.left = `${Math.min(Math.max(x, half), Math.max(innerWidth - half, half))}px`;
    reading.style.top = `${Math.max(y - reading.offsetHeight - 8, 4)}px`;
  };
  // Pixels from a point to the nearest place; inside of a cell there are none.
  const away = (place, x, y, box) => Math.hypot(
    Math.max(Math.abs(place.x - x) - place.wide / 2, 0) * box.width,
    Math.max(Math.abs(place.y - y) - place.high / 2, 0) * box.height,
  );
  const point = event => {
    const box = image.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
    let best = null, least = 12;
    for (const place of places) {
      const distance = away(place, x, y, box);
      if (distance < least) [best, least] = [place, distance];
    }
    say(best);
  };
  pan.addEventListener("pointermove", point);
  pan.addEventListener("pointerdown", point);
  pan.addEventListener("pointerleave", () => say(null));
  pan.addEventListener("blur", () => say(null));
  pan.addEventListener("keydown", event => {
    const [across, down] = {
      ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
    }[event.key] ?? [0, 0];
    if (event.key === "Escape") say(null);
    if (!across && !down) return;
    event.preventDefault();
    const { width, height } = image.getBoundingClientRect();
    let best = current ?? places[0], least = Infinity;
    for (const place of current ? places : []) {
      const x = (place.x - current.x) * width, y = (place.y - current.y) * height;
      const ahead = across * x + down * y, aside = Math.abs(down * x) + Math.abs(across * y);
      const distance = ahead + 4 * aside;
      if (ahead > .5 && distance < least) [best, least] = [place, distance];
    }
    say(best);
  });
}
addEventListener("scroll", () => { reading.hidden = true; }, { passive: true });

// Numbers are kept compressed: unpack what is downloaded, where the browser can.
for (const link of document.querySelectorAll('a[download$=".csv.gz"]')) {
  if (!("DecompressionStream" in window)) break;
  const packed = link.href;
  link.download = link.download.slice(0, -".gz".length);
  link.addEventListener("click", async event => {
    if (link.href !== packed) return;
    event.preventDefault();
    const bytes = Uint8Array.from(atob(packed.split(",")[1]), letter => letter.charCodeAt(0));
    const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const csv = new Blob([await new Response(unpacked).arrayBuffer()], { type: "text/csv" });
    link.href = URL.createObjectURL(csv);
    link.click();
  });
}

// Paper has no folds to open.
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
