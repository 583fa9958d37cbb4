// One program, several instruction sets: every variant this processor can run gives the same results, and each says
// that it is another one; the errors of each can be caught. Exit status 77 (skipped) where only the baseline can run.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "run.hpp"

namespace {

struct Variant {
    const char* name;
    bool runs_here;
    Run run;
};

std::vector<float> values(std::size_t count, float scale) {
    std::vector<float> result(count);
    for (std::size_t i = 0; i < count; ++i) {
        result[i] = scale * static_cast<float>(std::sin(static_cast<double>(i * i % 1000003)));
    }
    return result;
}

bool close(const std::vector<float>& a, const std::vector<float>& b) {
    for (std::size_t i = 0; i < a.size(); ++i) {
        if (!(std::abs(a[i] - b[i]) <= 1e-5F)) {  // false for a NaN too
            return false;
        }
    }
    return true;
}

/// Whether this file, which has another moe::Error than the variant, catches its errors by their base.
bool error_is_caught(Run run, Layer layer) {
    layer.n_experts = 1;  // of which the gate shall choose two
    try {
        run(layer, nullptr, nullptr);
    } catch (const std::runtime_error& error) {
        return std::strstr(error.what(), "top_k") != nullptr;
    }
    return false;
}

}  // namespace

int main() {
    const Variant variants[] = {
        {"baseline", true, run_baseline},
        {"x86-64-v3", __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0, run_v3},
        {"x86-64-v4", __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512vl") != 0, run_v4},
    };
    constexpr std::size_t n_tokens = 13;
    constexpr std::size_t n_experts = 7;
    constexpr std::size_t d_model = 65;
    constexpr std::size_t d_ff = 39;
    const std::vector<float> x = values(n_tokens * d_model, 1.0F);
    const std::vector<float> router = values(n_experts * d_model, 1.0F);
    const std::vector<float> gate = values(n_experts * d_ff * d_model, 0.2F);
    const std::vector<float> up = values(n_experts * d_ff * d_model, 0.3F);
    const std::vector<float> down = values(n_experts * d_model * d_ff, 0.4F);
    const Layer layer{n_tokens, n_experts, d_model, d_ff, router.data(), gate.data(), up.data(), down.data()};

    std::vector<std::vector<float>> results;
    std::vector<const char*> names;
    for (const Variant& variant : variants) {
        if (!variant.runs_here) {
            continue;
        }
        std::vector<float> y(n_tokens * d_model, 1e9F);
        const char* const name = variant.run(layer, x.data(), y.data());
        if (!error_is_caught(variant.run, layer)) {
            std::printf("%s: an error was not caught\n", variant.name);
            return 1;
        }
        const float largest = std::abs(*std::max_element(y.begin(), y.end()));
        std::printf("%s: %s, largest output %g\n", variant.name, name, static_cast<double>(largest));
        if (!(largest > 0.01F && largest < 100.0F)) {  // neither untouched nor nothing
            return 1;
        }
        for (std::size_t other = 0; other < results.size(); ++other) {
            if (std::strcmp(names[other], name) == 0 || !close(results[other], y)) {
                std::printf("%s: the same name as another, or other results\n", variant.name);
                return 1;
            }
        }
        names.push_back(name);
        results.push_back(y);
    }
    return results.size() > 1 ? 0 : 77;
}
