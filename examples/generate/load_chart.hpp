#pragma once

#include <string>
#include <vector>

#include <moe/layer/parts/observer.hpp>

namespace generate {

/// Counts how often each expert of one layer is chosen.
class LoadCounter final : public moe::Observer<float> {
public:
    void on_plan(const moe::RoutingRecord<float>& record) override;

    /// (n_experts), empty before the first batch.
    [[nodiscard]] const std::vector<std::size_t>& counts() const noexcept { return counts_; }

private:
    std::vector<std::size_t> counts_;
};

/// Bars for a terminal in UTF-8: a row an expert, a column a layer, four layers side by side. Every counter must have
/// seen the same number of experts.
[[nodiscard]] std::string load_chart(const std::vector<LoadCounter>& layers);

}  // namespace generate
