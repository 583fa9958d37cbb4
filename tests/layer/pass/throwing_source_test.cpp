#include <atomic>
#include <cstddef>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

#include "moe/moe.hpp"
#include "support/catch.hpp"
#include "support/executors.hpp"
#include "support/layer_cases.hpp"

namespace moe_test::throwing_source_test {

namespace {

using Bank = moe_test::LayerCase<float>::Bank;

/// A bank that fails in one call of one of its products.
class FailingSource : public Bank {
public:
    FailingSource(Bank bank, std::size_t call, bool in_hidden)
        : Bank(std::move(bank)), call_(call), in_hidden_(in_hidden) {}

    void multiply_hidden(std::size_t e, moe::PanelRange panels, moe::RowPointers rows,
                         const moe::PanelScratch<float>& scratch) const {
        fail(in_hidden_);
        Bank::multiply_hidden(e, panels, rows, scratch);
    }
    void multiply_output(std::size_t e, moe::PanelRange panels, moe::RowPointers rows,
                         const moe::PanelScratch<float>& scratch) const {
        fail(!in_hidden_);
        Bank::multiply_output(e, panels, rows, scratch);
    }

    void restart() const { *calls_ = 0; }

private:
    void fail(bool here) const {
        if (here && (*calls_)++ == call_) {
            throw std::runtime_error("no weights today");
        }
    }

    std::size_t call_;
    bool in_hidden_;
    std::shared_ptr<std::atomic<std::size_t>> calls_ = std::make_shared<std::atomic<std::size_t>>(0);
};

}  // namespace

TEST_CASE("a source that throws ends the call with its exception: no worker waits for ever", "[errors]") {
    moe_test::LayerShape shape;
    shape.n_experts = 4;
    shape.d_model = 200;
    shape.d_ff = 300;
    const moe_test::LayerCase<float> layer_case(shape, 3);
    moe_test::Draw draw(4);
    constexpr std::size_t n_tokens = 9;
    const auto x = moe_test::random_elements<float>(draw, n_tokens * shape.d_model, 1);
    std::vector<float> y(x.size());
    for (const bool in_hidden : {true, false}) {
        for (std::size_t call = 0; call < 8; ++call) {
            const moe::MoELayer layer{layer_case.router(moe::Dense<moe::Softmax>{}),
                                      FailingSource(layer_case.bank(), call, in_hidden)};
            for (const std::size_t workers : {1U, 4U}) {
                layer.experts().restart();
                moe::Workspace workspace;
                const auto run = [&] {
                    layer.forward(moe::view(x.data(), n_tokens, shape.d_model),
                                  moe::view(y.data(), n_tokens, shape.d_model), workspace,
                                  moe_test::ThreadExecutor(workers));
                };
                CHECK_THROWS_WITH(run(), "no weights today");
            }
        }
    }
}

}  // namespace moe_test::throwing_source_test
