/* Makes `import fusedloss._C` possible; the operators register themselves when the library loads. */
#include <Python.h>

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_C", "fusedloss kernels", -1};

PyMODINIT_FUNC PyInit__C(void) { return PyModule_Create(&definition); }
