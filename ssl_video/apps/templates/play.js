"use strict";
// Videos play while they are in view; not one that was paused, and none where less motion is asked for.
const still = matchMedia("(prefers-reduced-motion: reduce)");
const inView = new Set();
const watch = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting) inView.add(target); else inView.delete(target);
    if (!isIntersecting) target.pause();
    else if (!still.matches) target.play().catch(() => {});
  }
}, { threshold: 0.5 });
for (const video of document.querySelectorAll("video")) {
  watch.observe(video);
  video.addEventListener("pause", () => { if (inView.has(video)) watch.unobserve(video); });
}
still.addEventListener("change", () => { if (still.matches) inView.forEach((video) => video.pause()); });
