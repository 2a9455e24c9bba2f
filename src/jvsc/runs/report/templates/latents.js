"use strict";
(() => {
  const PAGE = 24, ATOM = 72, DATUM = 48;
  const at = id => document.getElementById(id);
  const gallery = JSON.parse(at("gallery").textContent);
  const contexts = gallery.contexts || {};
  const placeOfAtom = new Map(gallery.latents.map((latent, place) => [latent.number, place]));
  const placeOfDatum = new Map((gallery.data || []).map((datum, place) => [datum, place]));
  let first = 0;

  function element(name, className, text) {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function tile(sprite, place, height, label) {
    const { columns, rows, aspect } = gallery.tiles[sprite];
    const width = height * aspect, made = element("div", "tile " + sprite);
    const x = (place % columns) * width, y = Math.floor(place / columns) * height;
    made.setAttribute("role", "img");
    made.setAttribute("aria-label", label);
    made.style.cssText = `width:${width}px;height:${height}px;background-position:-${x}px -${y}px;` +
      `background-size:${columns * width}px ${rows * height}px`;
    return made;
  }

  function histogram(counts) {
    const made = element("div", "histogram"), highest = Math.log1p(Math.max(...counts, 1));
    made.setAttribute("role", "img");
    made.setAttribute("aria-label", "histogram: " + counts.join(", "));
    for (const count of counts) {
      const bar = element("div");
      bar.style.height = `${100 * Math.log1p(count) / highest}%`;
      bar.title = `${count} data`;
      made.append(bar);
    }
    return made;
  }

  const signed = value => (value > 0 ? "+" : "−") + Number(Math.abs(value).toPrecision(3));

  function strongest(latent) {
    if (gallery.contexts) {
      const list = element("ul", "contexts");
      for (const [datum, code] of latent.strongest) {
        const [before, token, after] = contexts[datum], line = element("li");
        const readable = text => text.replaceAll(/\s*\n\s*/g, " ⏎ "), shown = readable(token);
        line.append(element("b", "", signed(code)), readable(before).trimStart(), shown.match(/^\s*/)[0],
          element("mark", "", shown.trimStart() || "␣"), readable(after));
        list.append(line);
      }
      return list;
    }
    if (!gallery.data) {
      const told = latent.strongest.map(([datum, code]) => `row ${datum} (${signed(code)})`);
      return element("p", "numbers", told.join(", "));
    }
    const row = element("div", "strongest");
    for (const [datum, code] of latent.strongest) {
      const cell = element("div");
      cell.append(tile("data", placeOfDatum.get(datum), DATUM, `datum ${datum}`), signed(code));
      cell.title = `datum ${datum}`;
      row.append(cell);
    }
    return row;
  }

  function entries(latent) {
    const list = element("ul", "entries");
    for (const [dimension, value] of latent.entries)
      list.append(element("li", "", `${dimension}: ${signed(value)}`));
    return list;
  }

  function card(latent) {
    const made = element("article", "latent"), header = element("header"), parts = element("div", "parts");
    const share = 100 * latent.use, percent = share < 0.1 ? "under 0.1" : share.toFixed(1);
    header.append(element("strong", "", `latent ${latent.number}`));
    header.append(element("span", "", latent.use ? `${percent}%, size ${Number(latent.size.toPrecision(3))}`
      : "never used"));
    parts.append(gallery.tiles
      ? tile("atoms", placeOfAtom.get(latent.number), ATOM, `atom of latent ${latent.number}`)
      : entries(latent));
    parts.append(histogram(latent.histogram));
    made.append(header, parts, strongest(latent));
    return made;
  }

  function chosen() {
    const [low, high] = at("kind").value.split(" ").map(Number), sought = at("find").value.trim().toLowerCase();
    const key = at("sort").value, name = key.replace("-", ""), sign = key === name ? -1 : 1;
    const isFound = latent => !sought || (/^\d+$/.test(sought)
      ? latent.number === Number(sought)
      : latent.strongest.some(([datum]) => (contexts[datum] || []).join("").toLowerCase().includes(sought)));
    return gallery.latents
      .filter(latent => latent.use >= low && (latent.use < high || high === 1) && isFound(latent))
      .sort((a, b) => sign * (a[name] - b[name]) || a.number - b.number);
  }

  function show() {
    const found = chosen();
    first = Math.max(0, Math.min(first, Math.floor((found.length - 1) / PAGE) * PAGE));
    const shown = found.slice(first, first + PAGE);
    at("cards").replaceChildren(...shown.map(card));
    at("place").textContent = found.length ? `${first + 1}–${first + shown.length} of ${found.length}` : "none";
    at("back").disabled = first === 0;
    at("on").disabled = first + PAGE >= found.length;
  }

  for (const id of ["sort", "kind", "find"])
    at(id).addEventListener("input", () => { first = 0; show(); });
  at("back").addEventListener("click", () => { first -= PAGE; show(); });
  at("on").addEventListener("click", () => { first += PAGE; show(); });
  show();
})();
