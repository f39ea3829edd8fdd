// Before anything is drawn: the view that the address names, so that nothing moves when the rest is there.
document.documentElement.classList.add("js");
document.documentElement.dataset.view = /^#(overview|gallery|tables|curves|runs|cards)\b/.exec(location.hash)?.[1] ?? "overview";
