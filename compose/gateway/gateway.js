// What nginx's own directives cannot do: read the model's name in a request's body, join the models' lists, and ask every
// model for a token. Written for njs 0.7.9 (Debian 12) and later.

const KINDS = {400: "invalid_request_error", 404: "invalid_request_error", 503: "server_error"};

function refuse(r, status, code, param, message) {
    r.headersOut["Content-Type"] = "application/json";
    r.return(status, JSON.stringify({error: {message: message, type: KINDS[status], param: param, code: code}}));
}

function names(r) {
    return r.variables.models.split(" ");
}

function send(r, model) {
    r.variables.model = model;
    if (!r.variables.backend) {
        const known = names(r).join(", ");
        refuse(r, 404, "model_not_found", "model", `no model '${model.slice(0, 100)}' is served here; there are: ${known}`);
        return;
    }
    r.internalRedirect("@backend");
}

// A named location takes over with the same request, so that the answer is nginx's own unbuffered stream.
function route(r) {
    let body;
    try {
        body = JSON.parse(r.requestText);
    } catch (fault) {
        refuse(r, 400, "invalid_json", null, "the body is no JSON, so it names no model");
        return;
    }
    if (!body || typeof body.model !== "string" || !body.model) {
        refuse(r, 400, "missing_required_parameter", "model", "the body names no model");
        return;
    }
    send(r, body.model);
}

function named(r) {
    send(r, decodeURIComponent(r.uri.slice("/v1/models/".length)));
}

function parsed(reply) {
    try {
        return JSON.parse(reply.responseText);
    } catch (fault) {
        return null;
    }
}

// Each model's own entry, as its server lists it; models that do not answer are not in the list.
async function models(r) {
    const listed = await Promise.all(names(r).map(async (name) => {
        const reply = await r.subrequest("/ask/list/" + name);
        const said = reply.status === 200 ? parsed(reply) : null;
        if (!said || !Array.isArray(said.data)) {
            return null;
        }
        const own = said.data.find((entry) => entry.id === name) || said.data[0] || {};
        return Object.assign({object: "model", owned_by: "unknown"}, own, {id: name});
    }));
    r.headersOut["Content-Type"] = "application/json";
    r.return(200, JSON.stringify({object: "list", data: listed.filter((entry) => entry !== null)}));
}

// The word "ok", or why this model cannot be said to generate.
function state(reply) {
    if (reply.status !== 200) {
        return `does not answer (${reply.status})`;
    }
    const said = parsed(reply);
    const choice = said && Array.isArray(said.choices) ? said.choices[0] : null;
    const text = choice && choice.message ? choice.message.content : "";
    const tokens = said && said.usage ? said.usage.completion_tokens : 0;
    return text || tokens > 0 ? "ok" : "answers without a token";
}

async function health(r) {
    const states = {};
    await Promise.all(names(r).map(async (name) => {
        const reply = await r.subrequest("/ask/token/" + name);
        states[name] = state(reply);
    }));
    const failing = names(r).filter((name) => states[name] !== "ok");
    const body = {status: failing.length ? "unavailable" : "ok", models: states};
    if (failing.length) {
        body.error = {message: `no token from ${failing.join(", ")}`, type: "server_error", param: null,
                      code: "model_unavailable"};
    }
    r.headersOut["Content-Type"] = "application/json";
    r.return(failing.length ? 503 : 200, JSON.stringify(body));
}

export default {route, named, models, health};
