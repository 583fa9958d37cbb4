#include "dense_arm.hpp"

#include <vector>

#include <moe/moe.hpp>

#include "../reference.hpp"
#include "source_weights.hpp"

namespace bench {

namespace {

template <class W>
class DenseArm final : public Arm {
public:
    using Bank = moe::PackedExperts<W, moe::Gated<moe::Silu>>;

    DenseArm(const Shape& shape, std::size_t layers, const Threads& threads) : threads_(threads) {
        for (std::size_t layer = 0; layer < layers; ++layer) {
            layers_.emplace_back(packed<W>(1, shape.d_model, dense_d_ff(shape), layer, 2, threads));
        }
    }

    [[nodiscard]] std::string_view name() const override { return "dense"; }
    [[nodiscard]] std::size_t layers() const override { return layers_.size(); }
    void prepare(const Batch&) override {}
    void run(const Batch& batch, Turn turn, moe::MatrixView<float> y) override {
        layers_[turn.layer].forward(batch.x, y, workspace_, threads_);
    }

private:
    Threads threads_;
    std::vector<moe::Expert<Bank>> layers_;
    moe::Workspace workspace_;
};

}  // namespace

std::unique_ptr<Arm> make_dense_arm(const Shape& shape, Format format, std::size_t layers, const Threads& threads) {
    std::unique_ptr<Arm> arm;
    visit_rounding(format, [&]<class W>(W) { arm = std::make_unique<DenseArm<W>>(shape, layers, threads); });
    return arm;
}

}  // namespace bench
