// expect: temporary: give the matrix a name
#include <moe/eigen.hpp>

moe::RowMatrix<float> make();

#ifdef MOE_MISTAKE
auto use() { return moe::view(make()).rows(); }
#else
auto use() {
    const moe::RowMatrix<float> matrix = make();
    return moe::view(matrix).rows();
}
#endif
