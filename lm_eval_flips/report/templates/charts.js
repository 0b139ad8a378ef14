{
  const drawings = embedded("drawings");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const narrow = window.matchMedia("(max-width: 600px)");
  const drawn = new Map();

  async function draw(node) {
    library("vega");
    const [wide, small] = drawings.charts[node.dataset.chart];
    const spec = structuredClone(narrow.matches && small ? small : wide);
    const config = drawings.config[dark.matches ? "dark" : "light"];
    drawn.get(node)?.finalize();
    const result = await vegaEmbed(node, spec, { config, actions: false, renderer: "svg", logLevel: 1 });
    drawn.set(node, result);
    node.classList.add("drawn");
    node.classList.toggle("dark", dark.matches);
  }

  // Figures of unlike heights side by side: each spans as many pixels as it needs.
  const sizes = new ResizeObserver((entries) => {
    for (const { target } of entries) target.style.setProperty("--rows", Math.ceil(target.getBoundingClientRect().height) + 20);
  });
  document.querySelectorAll("figure").forEach((figure) => sizes.observe(figure));

  const nodes = [...document.querySelectorAll(".chart")];
  for (const node of nodes) whenNear(node, () => draw(node));
  const again = () => nodes.filter((node) => drawn.has(node)).forEach(draw);
  dark.addEventListener("change", again);
  narrow.addEventListener("change", again);
}
