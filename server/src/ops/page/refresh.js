// Without scripts a <meta> refresh reloads the page; with them only its content is swapped, and an
// unreachable server is told apart from an idle one.
setInterval(async () => {
  const main = document.querySelector("main");
  try {
    const answer = await fetch(location.href, { cache: "no-store" });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    main.replaceWith(page.querySelector("main"));
  } catch {
    main.classList.add("lost");
    const state = main.querySelector(".state");
    state.className = "state down";
    state.textContent = "not reachable";
  }
}, 2000);
