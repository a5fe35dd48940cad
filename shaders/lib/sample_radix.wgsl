// Exact selection among candidates (sample_candidates) by one workgroup: a radix search over the bits
// of distances, which are not negative, so that their bits are ordered as they are. Needs WORKGROUP.

const BINS = 2048u;
const BINS_PER_LANE = BINS / WORKGROUP;
const WHOLE = 2147483648.0;    // fixed-point 1 of a probability

var<workgroup> bins: array<atomic<u32>, BINS>;
var<workgroup> lane_sums: array<u32, WORKGROUP>;
var<workgroup> found: vec4u;   // digit, what remains to be reached within it, 1 where it was found

// Every id has weight 1 (mass_scale 0), or its probability exp(-distance) * mass_scale in
// fixed point. Among candidates within `limit`: the smallest distance up to which the weights add up to
// `wanted`, or to `fraction` of all of them where wanted is 0; `limit` where they do not.
// Uniform control flow and arguments.
fn reach_sum(limit: f32, mass_scale: f32, wanted: u32, fraction: f32, lane: u32) -> f32 {
    var prefix = 0u;
    var prefix_mask = 0u;
    var remaining = wanted;
    for (var pass_number = 0u; pass_number < 3u; pass_number++) {
        let shift = select(20u - 10u * pass_number, 0u, pass_number == 2u);
        let digit_mask = select(1023u, 2047u, pass_number == 0u);
        for (var bin = lane; bin < BINS; bin += WORKGROUP) {
            atomicStore(&bins[bin], 0u);
        }
        workgroupBarrier();
        for (var index = lane; index < domain; index += WORKGROUP) {
            let distance = candidate_distance(index);
            let bits = bitcast<u32>(distance);
            if (distance <= limit && (bits & prefix_mask) == prefix) {
                let mass = u32(exp(-distance) * mass_scale + 0.5);
                let weight = select(mass, 1u, mass_scale == 0.0);
                atomicAdd(&bins[(bits >> shift) & digit_mask], weight);
            }
        }
        workgroupBarrier();
        var sum = 0u;
        for (var bin = lane * BINS_PER_LANE; bin < (lane + 1u) * BINS_PER_LANE; bin++) {
            sum += atomicLoad(&bins[bin]);
        }
        lane_sums[lane] = sum;
        workgroupBarrier();
        if (lane == 0u) {
            found = find_digit(remaining, fraction);
        }
        let digit = workgroupUniformLoad(&found);
        if (digit.z == 0u) {
            return limit;
        }
        remaining = digit.y;
        prefix |= digit.x << shift;
        prefix_mask |= digit_mask << shift;
        if (pass_number == 0u) {
            // What follows needs only the ids up to the end of this bin.
            gather(min(limit, bitcast<f32>(prefix | (~prefix_mask & 0x7fffffffu))), lane);
        }
    }
    return bitcast<f32>(prefix);
}

// One lane: the bin in which the running sum reaches `wanted`.
fn find_digit(wanted: u32, fraction: f32) -> vec4u {
    var remaining = wanted;
    if (remaining == 0u) {
        var all = 0u;
        for (var other = 0u; other < WORKGROUP; other++) {
            all += lane_sums[other];
        }
        remaining = max(1u, u32(f32(all) * fraction));
    }
    var part = 0u;
    while (part < WORKGROUP && lane_sums[part] < remaining) {
        remaining -= lane_sums[part];
        part++;
    }
    if (part == WORKGROUP) {
        return vec4u(0u);
    }
    var bin = part * BINS_PER_LANE;
    var weight = atomicLoad(&bins[bin]);
    while (weight < remaining) {
        remaining -= weight;
        bin++;
        weight = atomicLoad(&bins[bin]);
    }
    return vec4u(bin, remaining, 1u, 0u);
}
