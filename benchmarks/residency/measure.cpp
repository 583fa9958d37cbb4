#include "measure.hpp"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include <moe/core/random.hpp>
#include <moe/gating/strategies/token_choice.hpp>
#include <moe/layer/moe_layer.hpp>
#include <moe/routing/plan.hpp>

#include "../probes/clock.hpp"

namespace bench {

namespace {

/// The experts in the order in which they were used, the last first: what a cache that forgets the oldest has.
class LastUsed {
public:
    explicit LastUsed(std::size_t n_experts) {
        for (std::size_t e = 0; e < n_experts; ++e) {
            order_.push_back(e);
        }
    }
    void use(const std::vector<std::size_t>& experts) {
        for (const std::size_t e : experts) {
            const auto found = std::find(order_.begin(), order_.end(), e);
            std::rotate(order_.begin(), found, found + 1);
        }
    }
    [[nodiscard]] std::vector<bool> kept(std::size_t n) const {
        std::vector<bool> result(order_.size());
        for (std::size_t i = 0; i < std::min(n, order_.size()); ++i) {
            result[order_[i]] = true;
        }
        return result;
    }

private:
    std::vector<std::size_t> order_;
};

/// Throws out of memory, between the hidden activations and the outputs, what those have made old: a call that uses
/// more experts than may stay loses some before it needs them again. Counts its own time.
class ShortOfMemory : public moe::Observer<float> {
public:
    ShortOfMemory(const ExpertsFile& file, std::vector<bool> kept) : file_(file), kept_(std::move(kept)) {}
    void on_phase_end(moe::Phase phase) override {
        if (phase == moe::Phase::hidden) {
            seconds_ += seconds_of([&] { file_.keep_only(kept_); });
        }
    }
    [[nodiscard]] double seconds() const noexcept { return seconds_; }

private:
    const ExpertsFile& file_;
    std::vector<bool> kept_;
    double seconds_ = 0;
};

/// Those of `experts` whose hidden activations are computed in Phase::hidden.
std::vector<std::size_t> first_wave(const std::vector<std::size_t>& experts, std::size_t expert_bytes,
                                    std::size_t wave_bytes) {
    const std::size_t most = std::max<std::size_t>(1, wave_bytes / expert_bytes);
    return {experts.begin(), experts.begin() + static_cast<std::ptrdiff_t>(std::min(most, experts.size()))};
}

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

std::vector<float> random_values(std::uint64_t seed, std::size_t n) {
    std::vector<float> values(n);
    for (std::size_t i = 0; i < n; ++i) {
        values[i] = 2 * moe::random_uniform(seed, i) - 1;
    }
    return values;
}

}  // namespace

ResidencyRow measure_residency(const ExpertsFile& file, const Threads& threads, const ResidencyCase& the_case) {
    const std::size_t n = file.packed().n_experts();
    const std::size_t d = file.packed().d_model();
    const std::vector<float> router = random_values(2, n * d);
    const moe::MoELayer layer{
        moe::Router{moe::view(router.data(), n, d),
                    moe::TokenChoice<moe::Softmax>{.top_k = static_cast<int>(the_case.top_k), .normalize = true}},
        file.packed().experts<moe::Int4>(moe::Gated<moe::Silu>{})};
    moe::ExpertResidencyOptions settings;
    settings.wave_bytes = the_case.wave_bytes;
    moe::ExpertResidency residency(file.ranges(), settings);
    moe::Workspace workspace;
    std::vector<float> outputs[2]{std::vector<float>(the_case.tokens * d), std::vector<float>(the_case.tokens * d)};
    std::vector<double> times[2];
    std::vector<double> in_memory[2];
    LastUsed used(n);
    ResidencyRow row;
    const std::size_t warm_up = 2;  // calls whose experts are only noted
    for (std::size_t call = 0; call < the_case.calls + warm_up; ++call) {
        const std::vector<float> values = random_values(100 + call, the_case.tokens * d);
        const auto x = moe::view(values.data(), the_case.tokens, d);
        const auto forward = [&](std::size_t arm, ShortOfMemory* observer) {
            moe::ForwardOptions<float> options;
            options.residency = arm == 1 ? &residency : nullptr;
            options.observer = observer;
            const double seconds = seconds_of([&] {
                layer.forward(x, moe::view(outputs[arm].data(), the_case.tokens, d), workspace, threads, options);
            });
            return observer == nullptr ? seconds : seconds - observer->seconds();
        };
        moe::RoutingPlan<float> plan;
        layer.route(x, plan, workspace, threads);
        std::vector<std::size_t> experts;
        for (std::size_t e = 0; e < n; ++e) {
            if (plan.view().expert_offsets[e] < plan.view().expert_offsets[e + 1]) {
                experts.push_back(e);
            }
        }
        const std::vector<bool> kept = used.kept(the_case.resident);
        LastUsed halfway[2]{used, used};
        halfway[0].use(experts);
        halfway[1].use(first_wave(experts, file.ranges().bytes(0), the_case.wave_bytes));
        used.use(experts);
        if (call < warm_up) {
            (void)forward(0, nullptr);  // the workspace grows
            continue;
        }
        for (std::size_t turn = 0; turn < 2; ++turn) {
            const std::size_t arm = (call + turn) % 2;
            if (the_case.limited) {
                times[arm].push_back(forward(arm, nullptr));
                continue;
            }
            ShortOfMemory observer(file, halfway[arm].kept(the_case.resident));
            file.keep_only(kept);
            times[arm].push_back(forward(arm, experts.size() > the_case.resident ? &observer : nullptr));
        }
        if (!the_case.limited) {
            file.keep_only(std::vector<bool>(n, true));
        }
        for (std::size_t turn = 0; turn < 2 && !the_case.limited; ++turn) {
            const std::size_t arm = (call + turn) % 2;
            in_memory[arm].push_back(forward(arm, nullptr));
        }
        row.same_bits =
            row.same_bits && std::memcmp(outputs[0].data(), outputs[1].data(), outputs[0].size() * sizeof(float)) == 0;
        row.experts += static_cast<double>(experts.size()) / static_cast<double>(the_case.calls);
        for (const std::size_t e : experts) {
            row.missing += (kept[e] ? 0.0 : 1.0) / static_cast<double>(the_case.calls);
        }
    }
    row.plain = median(times[0]);
    row.brought = median(times[1]);
    if (!the_case.limited) {
        row.plain_in_memory = median(in_memory[0]);
        row.brought_in_memory = median(in_memory[1]);
    }
    return row;
}

}  // namespace bench
