// Text of a model as safe HTML: Markdown by marked, cleaned by DOMPurify. Models are not trusted.

import DOMPurify from "dompurify";
import { marked } from "marked";

const LONG = 200_000; // characters: longer texts are shown as they are
const CLEAN = {
  ALLOWED_TAGS: "a b blockquote br code del em h1 h2 h3 h4 h5 h6 hr i li ol p pre s strong sub sup table tbody td th thead tr ul".split(" "),
  ALLOWED_ATTR: ["href", "title", "start", "align"],
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
};

// HTML in a model's text is shown as it was written, but for what Markdown lacks.
const KEPT = /^<\/?(?:br|sub|sup)\s*\/?>$/i;
const ESCAPES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
marked.use({ renderer: { html: ({ text }) => (KEPT.test(text.trim()) ? text : text.replace(/[&<>"']/g, (one) => ESCAPES[one])) } });

DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName === "A") {
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer nofollow");
  }
});

// Control characters that a terminal or a reader would obey, and marks that turn the direction of what follows.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g;

export function plain(text) {
  return text.replace(UNSEEN, "\ufffd");
}

// Safe HTML of a text, or null if it is to be shown as it is.
export function render(text) {
  if (text.length > LONG) return null;
  try {
    return DOMPurify.sanitize(marked.parse(plain(text), { async: false, gfm: true, breaks: true }), CLEAN);
  } catch {
    return null;
  }
}
