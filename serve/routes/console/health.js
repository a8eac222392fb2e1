// Whether the service answers, asked again and again and said in words.

import {TroubleError, request} from "./client.js";
import {byId, say} from "./dom.js";

const EVERY_MS = 5_000;
const TIMEOUT_MS = 4_500;

/**
 * Watches the service for as long as the page is looked at.
 * @param {() => string} missing the members that the last answer had to do without; empty for none.
 * @param {(ready: {name: string, version: string}) => void} onReady told after each good answer.
 * @returns {() => void} says again what is known, when an answer has come meanwhile.
 */
export function watchHealth(missing, onReady) {
  let state = {ready: false, trouble: "Checking the service"};
  const tell = () => show(state, missing());
  const look = async () => {
    if (!document.hidden) {
      state = await health();
      tell();
      if (state.ready) onReady(state);
    }
    setTimeout(look, EVERY_MS);
  };
  look();
  return tell;
}

async function health() {
  try {
    await request("GET", "healthz", undefined, {timeoutMs: TIMEOUT_MS});
  } catch (error) {
    return {ready: false, trouble: `Not reachable. ${error.message}`};
  }
  try {
    const {answer} = await request("GET", "readyz", undefined, {timeoutMs: TIMEOUT_MS});
    return {ready: true, name: answer.ensemble, version: answer.version};
  } catch (error) {
    const told = error instanceof TroubleError ? error.message : "";
    return {ready: false, trouble: `Not ready. ${told}`};
  }
}

function show({ready, trouble}, missing) {
  const degraded = ready && missing !== "";
  const words = degraded ? `Degraded: the last answer was made without ${missing}.` : "Ready";
  byId("health").dataset.state = degraded ? "degraded" : ready ? "ready" : "down";
  say(byId("health-text"), ready ? words : trouble);
}
