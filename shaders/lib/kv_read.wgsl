// Four consecutive elements of one head's key or value in a cache row; zero beyond the head.
// Heads whose size is a multiple of 4 are read unit by unit, others element by element.
// Header: HEAD_SIZE, VALUE_SIZE. Needs: a KV role.
const KEY_UNITS: u32 = (HEAD_SIZE + 3u) / 4u;
const VALUE_UNITS: u32 = (VALUE_SIZE + 3u) / 4u;

fn key_unit(row: u32, head: u32, unit: u32) -> vec4f {
    if (HEAD_SIZE % 4u == 0u) {
        return load_keys(row, head * KEY_UNITS + unit);
    }
    var found = vec4f(0.0);
    for (var i = 0u; i < 4u; i++) {
        let element = head * HEAD_SIZE + unit * 4u + i;
        if (unit * 4u + i < HEAD_SIZE) {
            found[i] = load_keys(row, element / 4u)[element % 4u];
        }
    }
    return found;
}

fn value_unit(row: u32, head: u32, unit: u32) -> vec4f {
    if (VALUE_SIZE % 4u == 0u) {
        return load_values(row, head * VALUE_UNITS + unit);
    }
    var found = vec4f(0.0);
    for (var i = 0u; i < 4u; i++) {
        let element = head * VALUE_SIZE + unit * 4u + i;
        if (unit * 4u + i < VALUE_SIZE) {
            found[i] = load_values(row, element / 4u)[element % 4u];
        }
    }
    return found;
}

// Four elements of a query; zero beyond the head.
fn query_unit(token: u32, head: u32, unit: u32) -> vec4f {
    let base = token * Q_STRIDE + Q_START + head * HEAD_SIZE;
    var found = vec4f(0.0);
    for (var i = 0u; i < 4u; i++) {
        let element = unit * 4u + i;
        if (element < HEAD_SIZE) {
            found[i] = q[base + element];
        }
    }
    return found;
}
