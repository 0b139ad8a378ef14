{
  const words = embedded("direction-words");
  const signWords = embedded("sign-words");
  let data, table, build;
  const by = (id) => document.getElementById(id);
  const filters = {};

  function fixed(value, digits) {
    if (value === null || value === undefined) return "–";
    return Number.isFinite(value) ? value.toFixed(digits) : value > 0 ? "∞" : "−∞";
  }
  function nats(value) {
    if (value === null || value === undefined || !Number.isFinite(value) || value === 0) return fixed(value, 0);
    return value >= 0.01 ? value.toFixed(4) : value.toExponential(2);
  }
  const percent = (share) => (share === null || share === undefined ? "–" : `${(100 * share).toFixed(1)} %`);

  function prepare() {
    data = embedded("sample-data");
    for (const [place, sample] of data.samples.entries()) {
      sample.place = place;
      sample.text = data.documents[sample.document];
      sample.choice_kl = infinite(sample.choice_kl ?? null);
      sample.token_kl = infinite(sample.token_kl ?? null);
      const { text } = sample;
      text.searched ??= `${text.task} ${text.question} ${(text.choices || []).join(" ")} ${text.target}`.toLowerCase();
      sample.signs ??= [[], []];
      sample.length = sample.lengths && sample.lengths[0] ? sample.lengths[1] / sample.lengths[0] : null;
      sample.own = text.choices ? "" : (sample.answers || []).join(" ").toLowerCase();
    }
  }

  const address = (sample) =>
    "#sample=" + [data.runs[sample.run], sample.text.task, sample.text.filter, sample.text.doc].map(encodeURIComponent).join("/");

  // A prompt's last paragraph holds its question; what stands before it is the same in every row.
  function gist(question) {
    const parts = question.split(/\n\s*\n/).filter((part) => part.replace(/[\W_]/gu, "").length > 11 || /[^\x00-\x7f]{6}/u.test(part));
    const lines = (parts.at(-1) || question).trim().split(/\s*\n\s*/);
    return lines.filter((line, place) => !place || !/^\S{1,10}:$/u.test(line)).join(" · ");
  }

  // The row: question, and on narrow screens the facts below it
  function questionCell(sample) {
    const id = `sample-${sample.place}`;
    const button = element("button", { type: "button", class: "open-sample", id, "aria-expanded": "false", dir: "auto" });
    button.textContent = gist(sample.text.question).slice(0, 240) || "(no text)";
    const few = element("div", { class: "c-few" }, tag(sample), " ", breakable(sample.text.task));
    if (data.runs.length > 1) few.append(` · ${data.runs[sample.run]}`);
    return element("div", {}, button, few);
  }
  const tag = (sample) => element("span", { class: `tag ${sample.direction}`, text: words[sample.direction] });
  function marginCell(sample) {
    const { margin } = sample.text;
    if (margin === null) return element("span", { text: "–" });
    const meter = element("span", { class: "meter", "aria-hidden": "true" }, element("i", { style: `width:${100 * margin}%` }));
    return element("span", {}, fixed(margin, 3), meter);
  }

  // The detail: prompt, choices with both probabilities, answers and distances
  function detail(sample) {
    const { text } = sample;
    const where = [text.task, text.filter === "none" ? null : text.filter, `document ${text.doc}`, text.metric];
    const head = element("div", { class: "detail-head" }, tag(sample));
    if (data.runs.length > 1) head.append(element("bdi", { text: data.runs[sample.run] }));
    for (const part of where) if (part) head.append(element("span", { text: part }));
    head.append(element("a", { class: "link-out", href: address(sample), text: "Link to this sample" }));
    const made = element("div", {}, head);
    const omitted = [];
    if (text.shots) omitted.push(`${text.shots} few-shot ${text.shots === 1 ? "example" : "examples"} not shown`);
    if (text.cut) omitted.push(`the first ${grouped(text.cut)} characters not shown`);
    if (omitted.length) made.append(element("p", { class: "omitted", text: omitted.join("; ") }));
    made.append(prompt(text));
    if (text.choices) {
      made.append(says(sample), choices(sample));
    } else if (sample.answers) {
      made.append(answers(sample));
    }
    made.append(facts(sample));
    return made;
  }

  function prompt(text) {
    const made = element("div", { class: "prompt", dir: "auto", tabindex: "0", role: "region", "aria-label": "Prompt" });
    if (!text.turns) made.textContent = text.question.trim();
    for (const [role, said] of text.turns || []) {
      made.append(element("div", { class: "turn" }, element("b", { text: role }), element("span", { dir: "auto", text: said.trim() })));
    }
    return made;
  }

  function says(sample) {
    const { text } = sample;
    const [before, after] = sample.answers || [];
    if (text.choices.length < 2 || before === null || after === null || before === undefined || after === undefined) return "";
    if (text.p[before] === null) return "";
    const quoted = (place) => element("q", { dir: "auto", text: short(text.choices[place]) });
    const sure = text.margin >= 0.5 ? "sure" : text.margin >= 0.1 ? "fairly sure" : "unsure";
    const ahead = `, ${fixed(100 * text.margin, 1)} points ahead of the next. `;
    const made = element("p", { class: "says" }, `The baseline was ${sure}: it gave ${percent(text.p[before])} to `, quoted(before), ahead);
    if (before === after) made.append(`The compressed model answers the same, with ${percent(sample.p[after])}.`);
    else made.append(`The compressed model gives that ${percent(sample.p[before])} and answers `, quoted(after), ` with ${percent(sample.p[after])}.`);
    return made;
  }
  const short = (text) => (text.length > 60 ? `${text.slice(0, 60)}…` : text);

  function choices(sample) {
    const { text } = sample;
    const [before, after] = sample.answers || [];
    const list = element("ul", { class: "choices" });
    for (const [place, words_] of text.choices.entries()) {
      const badges = element("div", { class: "badges" });
      if ((text.gold || []).includes(place)) badges.append(element("span", { class: "badge gold", text: "right answer" }));
      if (place === before) badges.append(element("span", { class: "badge", text: "baseline's answer" }));
      if (place === after) badges.append(element("span", { class: "badge", text: "compressed model's answer" }));
      const left = element("div", {}, element("div", { class: "text", dir: "auto", text: words_ || "(empty)" }), badges);
      const right = (text.gold || []).includes(place) && "right";
      list.append(element("li", { class: right }, left, bars(text.p?.[place], sample.p?.[place], data.colours[sample.run])));
    }
    return list;
  }

  function bars(before, after, colour) {
    const made = element("div", { class: "bars" });
    for (const [who, share] of [["baseline", before], ["compressed", after]]) {
      const fill = element("i", { style: `width:${100 * (share ?? 0)}%` + (who === "compressed" ? `;background:${colour}` : "") });
      made.append(
        element("span", { class: "who", text: who }),
        element("span", { class: `track ${who}`, "aria-hidden": "true" }, fill),
        element("span", { class: "share", text: percent(share) }),
      );
    }
    return made;
  }

  // Where two texts part: at the beginning of the first word that differs, or -1
  function parting(one, other) {
    if (one === other) return -1;
    let place = 0;
    while (place < one.length && one[place] === other[place]) place += 1;
    // back to where the word begins that is another one
    while (place && !/\s/u.test(one[place - 1])) place -= 1;
    return place;
  }

  // A text with its first differing word marked, and the answer that was taken out of it
  function marked(text, other, answer) {
    const made = element("span", {});
    const from = parting(text, other);
    const word = from < 0 ? 0 : /^\s*\S*/u.exec(text.slice(from))[0].length;
    const taken = answer && answer !== text ? text.lastIndexOf(answer) : -1;
    const spans = [[from, from + word, "parts", "the texts part here"], [taken, taken + (answer || "").length, "taken", "the answer that was taken"]]
      .filter(([start, end]) => start >= 0 && end > start);
    const ends = [...new Set([0, text.length, ...spans.flatMap(([start, end]) => [start, end])])].sort((a, b) => a - b);
    for (const [place, start] of ends.slice(0, -1).entries()) {
      const part = text.slice(start, ends[place + 1]);
      const own = spans.filter(([begin, end]) => begin <= start && start < end);
      if (own.length) made.append(element("mark", { class: own.map((span) => span[2]).join(" "), title: own.map((span) => span[3]).join("; "), text: part }));
      else made.append(part);
    }
    return made;
  }

  function answers(sample) {
    const made = element("div", { class: "answers" });
    const whole = sample.said || sample.answers;
    for (const [place, who] of ["Baseline", "Compressed"].entries()) {
      const box = (text, label, content) => element("div", { class: "said", dir: "auto", tabindex: "0", role: "region", "aria-label": label }, text ? content : "(nothing)");
      const side = element("div", {}, element("h3", { text: `${who}'s answer` }));
      const [own, other] = [whole[place], whole[1 - place]];
      if (sample.said) {
        side.append(box(sample.answers[place], `${who}'s answer`, sample.answers[place]), element("h3", { text: "The whole response" }));
        side.append(box(own, `${who}'s whole response`, marked(own, other, sample.answers[place])));
      } else side.append(box(own, `${who}'s answer`, marked(own, other, "")));
      const told = (sample.signs[place] || []).map((sign) => element("span", { class: "badge", text: signWords[sign] }));
      if (sample.lengths) told.unshift(element("span", { class: "badge", text: `${grouped(sample.lengths[place])} characters` }));
      if (sample.scores) told.push(element("span", { class: "badge", text: `judge: ${sample.scores[place]} of 10` }));
      side.append(element("div", { class: "badges" }, ...told));
      if (sample.reasons?.[place]) {
        side.append(element("h3", {}, "Why, in the words of ", element("bdi", { text: sample.judge })));
        side.append(box(sample.reasons[place], `The judge on the ${who.toLowerCase()}'s answer`, sample.reasons[place]));
      }
      made.append(side);
    }
    return made;
  }

  function facts(sample) {
    const list = element("dl", { class: "facts" });
    const found = [
      ["baseline's top margin", sample.text.margin === null ? null : fixed(sample.text.margin, 4)],
      ["choice KL", sample.choice_kl === null ? null : `${nats(sample.choice_kl)} nats`],
      ["token KL", sample.token_kl === null ? null : `${nats(sample.token_kl)} nats`],
      ["target", sample.text.choices ? null : short(sample.text.target)],
    ];
    for (const [name, value] of found) {
      if (value !== null) list.append(element("div", {}, element("dt", { text: name }), element("dd", { dir: "auto", text: value })));
    }
    return list;
  }

  function toggle(row, open) {
    const button = by(`sample-${row.data().place}`);
    if (open) row.child(detail(row.data()), "detail").show();
    else row.child.hide();
    button?.setAttribute("aria-expanded", String(open));
  }

  function fits(sample) {
    const { text } = sample;
    if (filters.run !== "" && sample.run !== filters.run) return false;
    if (filters.task !== "" && text.task !== filters.task) return false;
    if (filters.directions.size && !filters.directions.has(sample.direction)) return false;
    if (filters.signs.size && !sample.signs.some((own) => own.some((sign) => filters.signs.has(sign)))) return false;
    if (filters.lengthLow !== null && !(sample.length !== null && sample.length >= filters.lengthLow)) return false;
    if (filters.lengthHigh !== null && !(sample.length !== null && sample.length <= filters.lengthHigh)) return false;
    if (filters.marginLow !== null && !(text.margin >= filters.marginLow && text.margin !== null)) return false;
    if (filters.marginHigh !== null && !(text.margin <= filters.marginHigh && text.margin !== null)) return false;
    const kl = sample[filters.kl];
    if (filters.klLow !== null && !(kl !== null && kl >= filters.klLow)) return false;
    if (filters.klHigh !== null && !(kl !== null && kl <= filters.klHigh)) return false;
    return filters.words.every((word) => text.searched.includes(word) || sample.own.includes(word));
  }

  const bound = (id) => (by(id).value.trim() === "" ? null : by(id).valueAsNumber);
  function readFilters() {
    Object.assign(filters, {
      run: by("sample-run").value === "" ? "" : Number(by("sample-run").value),
      task: by("sample-task").value,
      directions: new Set([...by("sample-directions").querySelectorAll(":checked")].map((box) => box.value)),
      signs: new Set([...by("sample-signs").querySelectorAll(":checked")].map((box) => box.value)),
      lengthLow: bound("length-low"),
      lengthHigh: bound("length-high"),
      marginLow: bound("margin-low"),
      marginHigh: bound("margin-high"),
      kl: by("kl-kind").value,
      klLow: bound("kl-low"),
      klHigh: bound("kl-high"),
      words: by("sample-search").value.toLowerCase().split(/\s+/).filter(Boolean),
    });
  }

  const numeric = (name, title, value, cell) => ({
    name, title, data: null, type: "num", className: name === "margin" ? "num c-num c-margin" : "num c-num c-many",
    render: (_, type, sample) => (type === "display" ? cell(sample) : value(sample) ?? Number.NEGATIVE_INFINITY),
  });

  function columns() {
    return [
      { name: "question", title: "question", data: null, className: "c-question", orderable: false, render: (_, type, sample) => (type === "display" ? questionCell(sample) : "") },
      { name: "task", title: "task", data: null, type: "string", className: "c-task c-many", render: (_, type, sample) => (type === "display" ? breakable(sample.text.task) : sample.text.task) },
      data.runs.length > 1 && { name: "run", title: "model", data: null, type: "num", className: "c-run c-many", render: (_, type, sample) => (type === "display" ? element("bdi", { text: data.runs[sample.run] }) : sample.run) },
      { name: "direction", title: "direction", data: null, type: "string", className: "c-direction c-many", render: (_, type, sample) => (type === "display" ? tag(sample) : sample.direction) },
      numeric("margin", "top margin", (sample) => sample.text.margin, marginCell),
      data.samples.some((sample) => sample.choice_kl !== null) && numeric("choice_kl", "choice KL", (sample) => sample.choice_kl, (sample) => element("span", { text: nats(sample.choice_kl) })),
      data.samples.some((sample) => sample.token_kl !== null) && numeric("token_kl", "token KL", (sample) => sample.token_kl, (sample) => element("span", { text: nats(sample.token_kl) })),
    ].filter(Boolean);
  }

  // A box to tick for each of these words that some samples have
  function chips(id, names, of) {
    const counts = {};
    for (const sample of data.samples) for (const name of of(sample)) counts[name] = (counts[name] || 0) + 1;
    for (const [value, name] of Object.entries(names)) {
      if (!counts[value]) continue;
      const box = element("input", { type: "checkbox", value });
      by(id).append(element("label", {}, box, ` ${name} `, element("small", { text: grouped(counts[value]) })));
    }
    by(id).hidden = !Object.keys(counts).length;
  }

  function fillFilters(shown) {
    by("sample-run").append(new Option("all models", ""), ...data.runs.map((name, place) => new Option(name, place)));
    by("sample-run-label").hidden = data.runs.length < 2;
    const tasks = [...new Set(data.documents.map((text) => text.task))].sort();
    by("sample-task").append(new Option("all tasks", ""), ...tasks.map((name) => new Option(name, name)));
    chips("sample-directions", words, (sample) => [sample.direction]);
    chips("sample-signs", signWords, (sample) => [...new Set(sample.signs.flat())]);
    by("sample-length").hidden = !data.samples.some((sample) => sample.length !== null);
    for (const kind of ["choice_kl", "token_kl"]) {
      if (!shown.includes(kind)) {
        by("kl-kind").querySelector(`[value=${kind}]`).remove();
        by("sample-order").querySelector(`[value="${kind} desc"]`).remove();
      }
    }
    if (!by("kl-kind").options.length) by("kl-kind").closest("fieldset").hidden = true;
  }

  function apply() {
    readFilters();
    table.draw();
  }
  function sort() {
    const [name, way] = by("sample-order").value.split(" ");
    if (name) table.order([table.column(`${name}:name`).index(), way]).draw();
    else table.order([]).draw();
  }

  // Without a table drawn anew for it, which would move the focus.
  let clearing = false;
  function clear() {
    clearing = true;
    by("sample-filters").reset();
    clearing = false;
  }

  function show(sample) {
    clear();
    readFilters();
    table.order([]).draw();
    const row = table.row((_, own) => own === sample);
    const place = table.rows({ order: "applied" }).indexes().toArray().indexOf(row.index());
    table.page(Math.floor(place / table.page.len())).draw(false);
    toggle(row, true);
    const button = by(`sample-${sample.place}`);
    button.scrollIntoView({ block: "center", behavior: "instant" });
    button.focus({ preventScroll: true });
  }

  function fromAddress() {
    if (!location.hash.startsWith("#sample=") || !build) return;
    build();
    const [run, task, filter, doc] = location.hash.slice(8).split("/").map((part) => {
      try { return decodeURIComponent(part); } catch { return part; }
    });
    const sample = data.samples.find((own) => data.runs[own.run] === run && own.text.task === task && own.text.filter === filter && String(own.text.doc) === doc);
    if (sample) show(sample);
    else by("sample-count").textContent = "The sample of this link is not in this page.";
  }

  // From a number elsewhere in the page to the samples behind it
  window.showSamples = ({ run, task, direction }) => {
    build();
    clear();
    by("sample-run").value = run ?? "";
    by("sample-task").value = task ?? "";
    for (const box of by("sample-directions").querySelectorAll("input")) box.checked = box.value === direction;
    table.order([]);
    apply();
    by("samples").scrollIntoView({ behavior: "instant" });
    table.table().body().querySelector(".open-sample")?.focus({ preventScroll: true });
  };

  if (!by("browser").hidden) {
    build = whenNear(by("samples"), () => {
      library("tables");
      prepare();
      const made = columns();
      fillFilters(made.map((column) => column.name));
      readFilters();
      table = new DataTable("#sample-table", {
        data: data.samples,
        columns: made.map((column) => ({ ...column, searchable: false })),
        order: [],
        pageLength: 25,
        autoWidth: false,
        deferRender: true,
        layout: { topStart: null, topEnd: null, bottomStart: null, bottomEnd: "paging" },
        language: { zeroRecords: "no sample matches; clear the filters", paginate: { first: "first", previous: "previous", next: "next", last: "last" } },
        createdRow: (node) => node.classList.add("sample"),
      });
      const narrow = window.matchMedia("(max-width: 719px)");
      const fit = () => table.columns(".c-many").visible(!narrow.matches);
      narrow.addEventListener("change", fit);
      fit();
      table.search.fixed("page", (_, sample) => fits(sample));
      table.on("draw", () => {
        const { recordsDisplay, recordsTotal } = table.page.info();
        by("sample-count").textContent = `${grouped(recordsDisplay)} of ${grouped(recordsTotal)} changed samples`;
      });
      let later;
      by("sample-search").addEventListener("input", (event) => {
        event.stopPropagation();
        clearTimeout(later);
        later = setTimeout(apply, 40);
      });
      by("sample-filters").addEventListener("input", (event) => (event.target.id === "sample-order" ? sort() : apply()));
      by("sample-filters").addEventListener("reset", () => {
        if (!clearing) setTimeout(() => { sort(); apply(); });
      });
      by("sample-filters").addEventListener("submit", (event) => event.preventDefault());
      table.on("click", "tr.sample", (event) => {
        if (window.getSelection().toString() || event.target.closest("a")) return;
        const row = table.row(event.target.closest("tr"));
        toggle(row, !row.child.isShown());
      });
      nameOfPages(table, "Pages of samples");
      table.draw();
      const first = table.row({ order: "applied" }, 0);
      if (first.any()) toggle(table.row(table.rows({ order: "applied" }).indexes()[0]), true);
    });
    window.addEventListener("hashchange", fromAddress);
    window.addEventListener("load", fromAddress);
    document.addEventListener("click", (event) => {
      const link = event.target.closest("a[data-direction]");
      if (!link) return;
      event.preventDefault();
      showSamples({ run: Number(link.dataset.run), direction: link.dataset.direction });
    });
  }
}
