#pragma once

#include "moe/core/workspace.hpp"
#include "moe/kernels/panel_product.hpp"

namespace moe_test {

/// The scratch of one worker, and the memory it is in.
template <class T>
class OwnedScratch {
public:
    OwnedScratch() {
        moe::Arena measure;
        (void)moe::PanelScratch<T>::take(measure);
        workspace_.reserve(measure.used());
        moe::Arena arena = workspace_.arena();
        panel_ = moe::PanelScratch<T>::take(arena);
    }

    [[nodiscard]] const moe::PanelScratch<T>& operator*() const noexcept { return panel_; }

private:
    moe::Workspace workspace_;
    moe::PanelScratch<T> panel_;
};

}  // namespace moe_test
