// When everything is there.
document.addEventListener("DOMContentLoaded", () => {
  const { networks, charts, ranks } = JSON.parse($("#data").textContent);
  tiles.chunks = $$("script.chunk").map((element) => {
    const { start, count, height, width, channels } = element.dataset;
    return { element, start: Number(start), count: Number(count), height: Number(height), width: Number(width), channels: Number(channels) };
  });
  if (!("DecompressionStream" in window)) {
    $("main").prepend(make("p", { class: "note" }, "This browser cannot unpack the pictures: it takes Chrome 80, Firefox 113, Safari 16.4, or a newer one."));
  }
  startOverview(networks, ranks);
  startGallery(networks);
  startCharts(charts);
  startTables();
  startRuns();
  startCopies();
  $(".skip").addEventListener("click", (event) => { // its target is no view
    event.preventDefault();
    $("#main").focus();
  });
  addEventListener("hashchange", show);
  show();
  document.documentElement.dataset.ready = "yes";
});
