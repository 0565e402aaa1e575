// htm bound to Preact, and small hooks that all views share.

import { h } from "preact";
import { useEffect, useMemo, useReducer, useRef, useState } from "preact/hooks";
import htm from "htm";

export const html = htm.bind(h);

// Render again so many times a second while the page is visible.
export function useTicks(perSecond) {
  const [, tick] = useReducer((count) => count + 1, 0);
  useEffect(() => {
    const timer = setInterval(() => document.hidden || tick(), 1000 / perSecond);
    return () => clearInterval(timer);
  }, [perSecond]);
}

// Call `draw` for each frame of the screen.
export function useFrames(draw) {
  const latest = useRef(draw);
  latest.current = draw;
  useEffect(() => {
    let frame = requestAnimationFrame(function again() {
      latest.current();
      frame = requestAnimationFrame(again);
    });
    return () => cancelAnimationFrame(frame);
  }, []);
}

// Whether the screen is a phone's.
export function useNarrow() {
  const query = useMemo(() => matchMedia("(max-width: 40rem)"), []);
  const [narrow, setNarrow] = useState(query.matches);
  useEffect(() => {
    const changed = () => setNarrow(query.matches);
    query.addEventListener("change", changed);
    return () => query.removeEventListener("change", changed);
  }, []);
  return narrow;
}

const scheme = matchMedia("(prefers-color-scheme: dark)");

export function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : scheme.matches;
}

// The latest error of an action, and a function that runs actions and keeps their errors.
export function useAction() {
  const [error, setError] = useState("");
  const act = async (action) => {
    try {
      setError("");
      await action();
    } catch (failure) {
      if (failure.name !== "AbortError") setError(failure.message);
    }
  };
  return [error, act];
}

export function ms(seconds) {
  if (seconds === undefined) return "–";
  if (seconds >= 10) return `${seconds.toFixed(1)} s`;
  return seconds >= 1 ? `${seconds.toFixed(2)} s` : `${(1000 * seconds).toFixed(seconds < 0.01 ? 1 : 0)} ms`;
}

export function percent(share) {
  return Number.isFinite(share) ? `${Math.round(100 * share)} %` : "–";
}

// A name's end: ids differ there.
export function short(id) {
  return id.length > 14 ? `…${id.slice(-12)}` : id;
}
